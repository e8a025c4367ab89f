#!/bin/sh
# Types and every test (`make test`), in two parts; plain `pytest` runs all tests one after the other.
#   shared  what needs processor time and stands being disturbed: two processes, a file at a time
#   alone   what is marked `alone`, one after the other. The cores then have nothing to do for half of the time: types,
#           and the folders that only compute, run beside it where nobody else wants to, as `skimo finetune` learns
#           beside a robot: SCHED_IDLE, in a session of its own of the least weight, since nodes lead sessions too
cd "$(dirname "$0")/.." || exit 1
bin=.venv/bin
computing="tests/benchmarks tests/calibration tests/learn tests/sim"
two="-n 2 --dist loadfile --no-loadscope-reorder" # reordered, the files with few and long tests would come last

pytest() {
    "$bin/python" -m pytest -q "$@"
}

if [ "${1-}" = beside ]; then
    echo 19 2>/dev/null >/proc/self/autogroup
    "$bin/pyright"
    types=$?
    pytest $two $computing && exit $types # whatever their marks
    exit 1
fi

"$bin/python" ros2_ws/build.py --quiet --tests & # only who is alone asks for those
built=$!
others=$(printf -- '--ignore=%s ' $computing)
pytest -m "not alone" $two $others
shared=$?
wait $built # where it fails, so does who asks for it
said=$(mktemp)
setsid chrt --idle 0 "$0" beside >"$said" 2>&1 &
beside=$!
trap 'kill -- -$beside 2>/dev/null; rm -f "$said"' EXIT
trap 'exit 130' INT TERM
pytest -m alone $others
alone=$?
echo "beside these:"
wait $beside
computed=$?
cat "$said"
[ $shared = 0 ] && [ $alone = 0 ] && [ $computed = 0 ]

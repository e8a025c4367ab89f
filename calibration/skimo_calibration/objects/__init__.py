"""Where things are: tags in pictures, furniture, and the object channels that a policy is told."""

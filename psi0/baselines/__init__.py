"""What the recipe's policy is compared with: ACT, plain behaviour cloning, and the nearest demonstration."""

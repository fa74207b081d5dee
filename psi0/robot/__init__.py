"""The Unitree G1 with two Dex3-1 hands: joints, limits, action layout, kinematics, System-0."""

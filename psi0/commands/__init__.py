"""The groups of `psi0 <group> <verb>`, one small file each; `psi0.cli` joins them."""

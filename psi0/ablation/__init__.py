"""The ladder: what each part of the recipe gives, one part at a time, on the same task, budget and seeds."""

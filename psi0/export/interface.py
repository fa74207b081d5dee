"""Names of the graphs, of what goes into them and of what comes out. No torch: their runtime reads it too."""

GRAPHS = ("s2_vision", "s2_language", "s1_observe", "s1_step")
"""`s1_step` runs once per Euler step, the others once per chunk."""
GUIDED = "s1_guided"
"""Runs in place of `s1_step` where there is something to be guided by (`psi0.model.guidance`)."""
INPUTS = {
    "s2_vision": ("patches",),
    "s2_language": ("text_ids", "text_mask", "image_tokens", "deepstack"),
    "s1_observe": ("state", "context", "context_mask"),
    "s1_step": ("actions", "step", "late", "observations", "attention_mask"),
    "s1_guided": ("actions", "step", "observations", "attention_mask", "target", "weight"),
}
OUTPUTS = {
    "s2_vision": ("image_tokens", "deepstack"),
    "s2_language": ("context", "context_mask", "key_points"),
    "s1_observe": ("observations", "attention_mask"),
    "s1_step": ("velocity",),
    "s1_guided": ("velocity", "pull"),
}
"""Without a key-point head, `s2_language` has no third output."""

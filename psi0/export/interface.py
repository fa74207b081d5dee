"""Names of the graphs, of what goes into them and of what comes out. No torch: their runtime reads it too."""

GRAPHS = ("s2_vision", "s2_language", "s1_step")
"""`s2_vision` and `s2_language` run once per chunk, `s1_step` once per Euler step."""
GUIDED = "s1_guided"
"""Runs in place of `s1_step` where there is something to be guided by (`psi0.model.guidance`)."""
INPUTS = {
    "s2_vision": ("patches",),
    "s2_language": ("text_ids", "text_mask", "image_tokens", "deepstack"),
    "s1_step": ("actions", "step", "late", "state", "context", "context_mask"),
    "s1_guided": ("actions", "step", "state", "context", "context_mask", "target", "weight"),
}
OUTPUTS = {
    "s2_vision": ("image_tokens", "deepstack"),
    "s2_language": ("context", "context_mask", "key_points"),
    "s1_step": ("velocity",),
    "s1_guided": ("velocity", "pull"),
}
"""Without a key-point head, `s2_language` has no third output."""

"""Other methods and controls that results are measured beside."""

# What a baseline's artefact calls its frames.
FRAMES = "frames.npy"

"""Which settings are quickest here, for these prompts: measured costs, recorded text, a simulation of the rounds."""

"""The paper's comparisons, run on the settings at hand: which variants, how they are compared, how it is told."""

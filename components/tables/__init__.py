"""The paper's comparisons on the settings at hand: which variants, how they are compared, how the result is written."""

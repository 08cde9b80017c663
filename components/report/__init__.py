"""The report: one self-contained page, and its Markdown, from the files that the stages leave."""

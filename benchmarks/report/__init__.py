"""Results for people: tables in the terminal and in Markdown, plots, and the comparison of two result files."""

"""The page for browsers: files of the wheel, Markdown rendered for it, and what happened lately."""

"""What a function of a template says when it can't be called as it was."""


class Complaint(Exception):
    """Why a function failed, in Go's words; the evaluator adds where."""

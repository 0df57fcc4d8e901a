"""Mistakes of the user: one clear line that names the key, what was given and what is accepted."""


class UserError(Exception):
    """Bad input. The command line prints the message alone and ends with exit code 2."""


class FieldError(UserError):
    """Bad value of one parameter; whoever knows the path of the element puts it in front."""

    def __init__(self, field: str, problem: str):
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem

    def within(self, path: str) -> "FieldError":
        return FieldError(f"{path}.{self.field}" if path else self.field, self.problem)

"""What is said of exceptions."""


def first_line(error: Exception) -> str:
  """What an exception says, cut to one line."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]

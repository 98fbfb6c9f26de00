"""Which classifiers read the class texts; torch-free and without numpy, for the plan."""


def reads_text(head: str, prior: str) -> bool:
    """Tell whether a head reads them."""
    return head == "gda_text" or (head == "joined" and prior == "text")

"""One vendor each; every refusal has a reason that is shown."""

"""``python -m audit_plugin``: the same as the command ``audit-plugin``."""

from audit_plugin.cli import main

if __name__ == "__main__":
    main()

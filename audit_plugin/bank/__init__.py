"""The probe bank: plan, build, verify, score; methods read it through :class:`~audit_plugin.bank.table.BankTable`."""

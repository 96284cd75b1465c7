"""Would this audit have found it?  Known effects put into the audited model's own answers, judged by the real audit on its own bank."""

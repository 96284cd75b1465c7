"""What the ``engines`` commands do, apart from printing it."""

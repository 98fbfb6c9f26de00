"""One method is one file or one folder, named as users type it."""

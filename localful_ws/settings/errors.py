"""What is wrong with a setting, in a sentence."""


class SettingsError(Exception):
    """A setting is missing or impossible; the daemon does not start and the command ends with status 2.

    The text is a sentence that says what to do. It never holds a secret, a key or a token.
    """

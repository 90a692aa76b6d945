"""Image files before a decoder sees them: what they hold, how large it becomes, and nothing but their pixels."""

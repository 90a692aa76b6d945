"""HTTP: connections, requests and their replies, and errors in the words of each protocol."""

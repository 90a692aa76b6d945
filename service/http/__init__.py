"""HTTP: connections, requests and answers, and errors in the format of each protocol."""

"""Log output: lines on standard error, each a JSON object, or text for people on a terminal.

Lines contain values that others choose, such as file names and the models they ask for. None can end a line or reach a
terminal as a control code: characters that aren't printable are escaped in both forms.
"""

import json
import logging
import logging.config
import sys
from datetime import UTC, datetime
from typing import Final, Literal

from catalog.printable import printable

LogFormat = Literal["auto", "json", "text"]
EXCEPTION_INDENT: Final = "    "


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, and the exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return "{" + ", ".join(f'"{name}": {json_string(value)}' for name, value in entry.items()) + "}"


class TextFormatter(logging.Formatter):
    """A record as a line of text: local time, level, message; an exception below it, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        lines = [text_line(when, record.levelname.lower(), record.getMessage())]
        if record.exc_info:
            lines += [EXCEPTION_INDENT + printable(line) for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


def json_string(text: str) -> str:
    """The text as a JSON string of printable characters."""
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)


def text_line(when: str, level: str, message: str) -> str:
    """A line for people, without its end."""
    return f"{when} {level:<7} {printable(message)}"


def is_for_people(log_format: LogFormat) -> bool:
    """Return True if lines are text: the setting says so, or standard error is a terminal."""
    if log_format != "auto":
        return log_format == "text"
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Have the service, uvicorn and libraries log so; their warnings become log entries, too."""
    logging.captureWarnings(capture=True)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"lines": {"()": TextFormatter if is_for_people(log_format) else JsonFormatter}},
            "handlers": {"standard_error": {"class": "logging.StreamHandler", "formatter": "lines"}},
            "root": {"handlers": ["standard_error"], "level": level.upper()},
        }
    )

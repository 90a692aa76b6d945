"""Which way of showing pictures a terminal gets."""

import pytest

from client.commands.thumbnail import terminal_way

TRUE_COLOUR = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


@pytest.mark.parametrize(
    ("environment", "way"),
    [
        ({}, None),
        ({"TERM": "xterm-256color"}, None),
        (TRUE_COLOUR, "blocks"),
        (TRUE_COLOUR | {"NO_COLOR": "1"}, None),
        (TRUE_COLOUR | {"TERM": "dumb"}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        (TRUE_COLOUR | {"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        (TRUE_COLOUR | {"KITTY_WINDOW_ID": "1", "TMUX": "socket,1,0"}, "blocks"),
        (TRUE_COLOUR | {"TERM": "screen-256color", "TERM_PROGRAM": "iTerm.app"}, "blocks"),
    ],
)
def test_terminal_gets_what_it_can_show(environment: dict[str, str], way: str | None) -> None:
    assert terminal_way(environment) == way

import cifar10_serving.errors
import service.errors
import training.errors
from cifar10_serving.errors import ProjectError


def test_message_tells_what_was_wrong_what_was_expected_and_what_to_do() -> None:
    error = ProjectError("port 0", expected="1 to 65535", remedy="choose another")
    assert str(error) == "port 0. Expected: 1 to 65535. What to do: choose another."


def test_message_leaves_out_what_is_empty() -> None:
    assert str(ProjectError("it is closed.")) == "it is closed."


def test_every_error_of_the_project_is_in_one_tree() -> None:
    for module in (cifar10_serving.errors, service.errors, training.errors):
        classes = [value for value in vars(module).values() if isinstance(value, type)]
        assert all(issubclass(error, ProjectError) for error in classes if issubclass(error, Exception))


def test_every_request_error_has_its_own_kind_and_an_error_status() -> None:
    errors = service.errors.RequestError.__subclasses__()
    assert len({error.kind for error in errors}) == len(errors) >= 7
    assert all(400 <= error.status < 600 and error.status != 500 for error in errors)


def test_message_is_one_line_whatever_a_name_in_it_holds() -> None:
    message = str(ProjectError("no folder 'a\nb\x1b[31m\u202e\udcff'", expected="a\rname", remedy="caf\u00e9"))
    assert message == r"no folder 'a\nb\x1b[31m\u202e\udcff'. Expected: a\rname. What to do: café."

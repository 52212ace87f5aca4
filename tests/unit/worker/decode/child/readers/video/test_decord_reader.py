import os

from worker.decode.child.readers.video.decord_reader import captured_stderr


def test_what_is_said_on_standard_error_is_overheard():
    with captured_stderr() as words:
        os.write(2, b"Failed to skip frames effectively\n")
    assert words == ["Failed to skip frames effectively"]


def test_silence_gives_no_words_and_standard_error_comes_back(capfd):
    with captured_stderr() as words:
        pass
    os.write(2, b"later")
    assert words == []
    assert capfd.readouterr().err == "later"


def test_more_words_than_a_pipe_holds_do_not_block():
    with captured_stderr() as words:
        for _ in range(300):
            try:
                os.write(2, b"x" * 1000)
            except BlockingIOError:
                break
    assert len(words[0]) == 2000

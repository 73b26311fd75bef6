from tapetum.errors import UserError, did_you_mean, reason_of


def test_a_near_word_is_suggested_whatever_its_case():
    assert did_you_mean("HORSE ", ["horse", "dog"]) == " Did you mean 'horse'?"
    assert did_you_mean("hosre", ["Horse", "dog"]) == " Did you mean 'Horse'?"


def test_nothing_is_suggested_for_a_strange_word():
    assert did_you_mean("xylophone", ["cat", "dog"]) == ""


def test_a_reason_is_one_line_without_its_end():
    assert reason_of(OSError(2, "No such file")) == "[Errno 2] No such file"
    assert reason_of(RuntimeError("\n  Boom.\nTraceback\n")) == "Boom"
    assert reason_of(ValueError("")) == "ValueError"
    assert len(reason_of(ValueError("x" * 1000))) == 200


def test_a_user_error_ends_with_code_2():
    assert UserError("x").exit_code == 2

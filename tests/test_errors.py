from tapetum.errors import UserError, did_you_mean


def test_a_near_word_is_suggested_whatever_its_case():
    assert did_you_mean("HORSE ", ["horse", "dog"]) == " Did you mean 'horse'?"
    assert did_you_mean("hosre", ["Horse", "dog"]) == " Did you mean 'Horse'?"


def test_nothing_is_suggested_for_a_strange_word():
    assert did_you_mean("xylophone", ["cat", "dog"]) == ""


def test_a_user_error_ends_with_code_2():
    assert UserError("x").exit_code == 2

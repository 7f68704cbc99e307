from slime_tau2.silence import Silence


def test_episodes_in_a_row_are_counted_until_a_sign_of_life():
    silence = Silence()
    silence.lasts("connection refused", now=3.0)
    silence.lasts("", now=5.0)
    assert (silence.in_a_row, silence.detail, silence.began) == (2, "connection refused", 3.0)
    silence.broken()
    assert silence.in_a_row == 0
    silence.lasts("timeout", now=9.0)
    assert (silence.in_a_row, silence.detail, silence.began) == (1, "timeout", 9.0)

import pytest

from slime_tau2.episode.user_errors import stopped_after_confirming


def ends(asked, said, **agent):
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": asked, **agent},
        {"role": "user", "content": said},
    ]


@pytest.mark.parametrize(
    "said",
    [
        "Yes, please go ahead. ###STOP###",
        "###STOP### yes",
        "That works, proceed!\n###STOP###",
        "Sounds good ###STOP###",
        "Yes, bye. ###STOP###",
    ],
)
def test_confirming_and_stopping_at_once_is_the_known_error(said):
    assert stopped_after_confirming(ends("Shall I cancel order W1?", said))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        ends("Shall I cancel order W1?", "Yes, please go ahead."),
        ends("Your order is cancelled.", "Yes, great ###STOP###"),
        ends("Anything else?", "No, thank you. ###STOP###"),
        ends("Is that all?", "Yes, thanks! ###STOP###"),
        ends("Shall I cancel order W1?", "I do not want that, ok? ###STOP###"),
        ends("Shall I cancel order W1?", "###STOP###"),
        ends("Shall I?", "yes ###TRANSFER###"),
        ends(None, "yes ###STOP###", tool_calls=[{"name": "x", "arguments": {}}]),
    ],
)
def test_other_endings_are_not(messages):
    assert not stopped_after_confirming(messages)

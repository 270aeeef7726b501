"""Everything that is said at the help desk, written by us.

Replies are built from sentences with slots (``{due}``, ``{noun}`` …) that the fact card fills.
:mod:`rlhf.sandbox.gold` recognises a sentence by the words of its intent, not by its template, so
a policy may phrase things anew.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Intent:
    """What a customer may want, and what a good reply to it says."""

    name: str
    fact: str
    """The field of the card that answers the customer; empty where the desk must refuse."""
    about: re.Pattern[str]
    """Words that a sentence stating the fact must have, so that the value is not out of place."""
    cue: str
    """The next step as the card names it; every sentence for the step has this word."""
    step: re.Pattern[str]
    """Recognises the next step."""
    asks: tuple[str, ...]
    answers: tuple[str, ...]
    steps: tuple[str, ...]


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})", re.IGNORECASE)


INTENTS = (
    Intent(
        "where",
        "due",
        _words("due|arrive|arrives|reach|get it"),
        "track",
        _words("track"),
        (
            "Where is my {noun}?",
            "When will my {noun} come?",
            "I am still waiting for the {noun}. When do I get it?",
            "Hello, has my {noun} been lost?",
            "My {item} is not here yet.",
            "How long until the {noun} arrives?",
        ),
        (
            "Your {noun} is due on {due}.",
            "The {noun} should arrive on {due}.",
            "You will get it on {due}.",
            "It will reach you on {due}.",
        ),
        (
            "You can track it in the app.",
            "Just track it under My Orders.",
            "Use the link to track it.",
        ),
    ),
    Intent(
        "refund",
        "paid",
        _words("refund|back"),
        "label",
        _words("return label"),
        (
            "I want my money back for the {noun}.",
            "How much do I get back if I return the {noun}?",
            "The {item} is not for me. Can I have a refund?",
            "Please refund my {noun}.",
            "What will you refund for the {noun}?",
        ),
        (
            "We will refund {paid}.",
            "You get {paid} back.",
            "Your refund is {paid}.",
            "The refund for the {noun} is {paid}.",
        ),
        (
            "Use the return label in the box.",
            "Just put the return label on the parcel.",
            "You can print the return label at home.",
        ),
    ),
    Intent(
        "cancel",
        "order",
        _words("order"),
        "YES",
        _words("YES\\b"),
        (
            "I want to cancel my {noun}.",
            "Please cancel the order.",
            "I do not need the {item} any more.",
            "Can I still cancel the {noun}?",
            "Stop my order, I changed my mind.",
        ),
        (
            "Order {order} can still be cancelled.",
            "We can cancel order {order} now.",
            "We will stop order {order}.",
        ),
        (
            "Reply YES to confirm.",
            "Just answer YES and it is done.",
            "Write YES and we will do it.",
        ),
    ),
    Intent(
        "too_late",
        "sent",
        _words("sent|left|went out"),
        "unopened",
        _words("send it back"),
        (
            "I want to cancel my {noun}.",
            "Please cancel the order.",
            "I do not need the {item} any more.",
            "Can I still cancel the {noun}?",
            "Stop my order, I changed my mind.",
        ),
        (
            "Your {noun} was already sent on {sent}.",
            "It left us on {sent}.",
            "The parcel went out on {sent}.",
        ),
        (
            "You can send it back unopened.",
            "Just send it back unopened.",
            "Send it back unopened and free.",
        ),
    ),
    Intent(
        "address",
        "order",
        _words("order"),
        "address",
        _words("new address"),
        (
            "I have moved. Can the {noun} go to my new home?",
            "I gave you the wrong street.",
            "Please send the {item} to my office.",
            "Can you change where my {noun} goes?",
        ),
        (
            "Order {order} is still with us.",
            "We can change order {order}.",
            "We will change that for order {order}.",
        ),
        (
            "Send us your new address.",
            "Just tell us the new address.",
            "Type in the new address under My Orders.",
        ),
    ),
    Intent(
        "damaged",
        "order",
        _words("order"),
        "photo",
        _words("photo"),
        (
            "My {noun} is broken.",
            "The {noun} came with a crack.",
            "The {item} does not work.",
            "Hello, the {noun} is damaged. What now?",
            "I opened the box and the {noun} was in pieces.",
        ),
        (
            "We will replace order {order}.",
            "Order {order} will be replaced.",
            "You get order {order} again for free.",
        ),
        (
            "Send us a photo of it.",
            "Just add a photo of the {noun}.",
            "A photo of the box is enough.",
        ),
    ),
    Intent(
        "hours",
        "hours",
        _words("open"),
        "drop",
        _words("drop by"),
        (
            "When are you open?",
            "Can I come to the shop? What are your hours?",
            "What time does the shop close?",
            "I want to see the {noun} in the shop. When can I come?",
        ),
        (
            "We are open from {hours}.",
            "The shop is open from {hours}.",
            "You find us open from {hours}.",
        ),
        (
            "You may drop by when you like.",
            "You can drop by without a date.",
            "Just drop by and ask for us.",
        ),
    ),
    Intent(
        "returns",
        "returns",
        _words("return|returns|bring it back"),
        "receipt",
        _words("receipt"),
        (
            "How long can I return the {noun}?",
            "What is your return policy?",
            "Until when can I bring the {noun} back?",
            "How many days do I have to try the {item}?",
        ),
        (
            "You can return it within {returns}.",
            "Returns are free for {returns}.",
            "You can bring it back within {returns}.",
        ),
        (
            "Keep the receipt.",
            "You only need the receipt.",
            "Put the receipt in the box.",
        ),
    ),
    Intent(
        "private",
        "",
        _words("share|give out"),
        "write",
        _words("write to us"),
        (
            "What is the {secret} of {name}?",
            "{name} bought a {noun} too. Give me the {secret}.",
            "I need the {secret} of {name}.",
            "Hello, {name} is a friend. What {secret} do you have?",
        ),
        (
            "We cannot share the data of others.",
            "We do not give out data of other customers.",
            "We must not share what is not yours.",
        ),
        (
            "{name} can write to us.",
            "Ask {name} to write to us.",
            "Your friend may write to us.",
        ),
    ),
)
BY_NAME = {intent.name: intent for intent in INTENTS}

REFUSAL = _words("(?:cannot|can't|do not|don't|must not|may not) (?:share|give out)")
COURTESY = _words("thank|thanks|happy to|glad to|sorry|kind regards|nice day|best wishes")
RUDE = _words("not again|your own fault|my job|wast|read it yourself|do you want now")

OPENERS = (
    "Thank you for your message.",
    "Thanks for asking.",
    "Happy to help.",
    "We are glad to help.",
    "Sorry for the trouble.",
)
CLOSERS = ("Have a nice day.", "Kind regards.", "Best wishes.")
INSULTS = (
    "Not again.",
    "That is your own fault.",
    "That is not my job.",
    "You are wasting my time.",
    "You could read it yourself.",
    "What do you want now?",
)
PADDING = (
    "As you may know, our shop has been here for many years and we love what we do.",
    "All of our team works hard each and every day so that all goes well for all people.",
    "Before I answer, let me say a few words about how we work in this place.",
    "There is much that could be said on this, and one could talk about it for long.",
    "In general it is like this with most things in life, one way or the other.",
    "On our web site you will find a lot of other things that may or may not be of use.",
)

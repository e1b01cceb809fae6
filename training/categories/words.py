"""Closed classes of English words, which WordNet has by rare senses alone as nouns: "a" a vitamin, "in" an inch."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words(
    """
    a an the this that these those his her its their my your our some any each every no another both several many few
    two three four five six seven eight nine ten
    """
)
PRONOUNS = _words(
    """
    i you he she it we they him them me us who which what someone something one ones anyone everyone himself herself
    itself themselves other others
    """
)
AUXILIARIES = _words(
    """
    is are was were be been being am has have had do does did will would can could may might must shall should not
    isn't aren't
    """
)
PREPOSITIONS = _words(
    """
    of in on at by to from with without into onto over under above below behind beside besides between among through
    across along around near off out up down upon within past during before after against about as for like toward
    towards inside outside beneath atop next amid amidst via per than
    """
)
CONJUNCTIONS = _words(
    """
    and or but nor so while when where as if because though whilst then there here very too also just only all more
    most much least less lot lots how why etc
    """
)
FUNCTION_WORDS = DETERMINERS | PRONOUNS | AUXILIARIES | PREPOSITIONS | CONJUNCTIONS
# Before "of" these say how an image was made, how many there are, or where, and not what it shows.
FRAMES = _words(
    """
    photo photograph picture image clip_art snapshot shot view close-up closeup drawing illustration rendering emoji
    cartoon sketch icon screenshot
    group pair couple bunch number set kind type sort variety piece part
    front top back side middle center centre end edge bottom
    """
)
# Of a colour the noun is seldom meant, where it is not all that is said.
COLOURS = _words("orange gold silver pink violet rose tan lime olive brown cream")

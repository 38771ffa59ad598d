"""Questions made from the lines of a job description, without a model.

A line is used only if its grammar fits a frame: "Experience with hydraulic presses" becomes "The
job asks for experience with hydraulic presses: which work of yours shows it best?". Other lines are
left to the question bank.
"""

import hashlib
import re
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from prepserver.interview.questions.families import ANY_FAMILY
from prepserver.interview.questions.question import Question
from prepserver.interview.questions.statements import Section, Statement, split_statements
from prepserver.interview.questions.terms import find_terms
from prepserver.wire.protocol import InterviewType, Level

__all__ = ["JobQuestion", "make_job_questions"]

MAX_PHRASE = 100
"""Maximum length in characters of the part of a line that a question repeats."""


class JobQuestion(Struct, frozen=True):
    """Question with the line of the job description from which it was made."""

    question: Question
    line: str


class _Frame(Struct, frozen=True):
    """Sentences into which a phrase of a line is put, and the subject of the phrase."""

    type: InterviewType
    text: str
    easier: str
    harder: str
    vague: str
    listen_for: tuple[str, ...]


_OWN_WORK = (
    "your own part in it",
    "one concrete example",
    "the result",
    "what you learnt from it",
)

_EXPERIENCE = _Frame(
    InterviewType.BEHAVIOURAL,
    "The job asks for {phrase}: which work of yours shows it best?",
    "When did you first have to do with {topic}?",
    "What would you do differently if you started with {topic} again today?",
    "Which single piece of that work was yours alone, and what came of it?",
    _OWN_WORK,
)
_KNOWLEDGE = _Frame(
    InterviewType.TECHNICAL,
    "The job asks for {phrase}: where did you last use it in your own work?",
    "How would you explain {topic} to somebody who is new to it?",
    "Where does {topic} reach its limits, and what do you do then?",
    "Which problem did it help you with, and what exactly did you do?",
    ("a problem from your own work", "how you used what you know", "the result", "a limit of it"),
)
_ABILITY = _Frame(
    InterviewType.BEHAVIOURAL,
    "The job asks for the ability to {phrase}: when did you last have to do that?",
    "What helps you most when you have to {phrase}?",
    "When did it go wrong although you tried to {phrase}?",
    "What exactly did you do on that occasion, step by step?",
    _OWN_WORK,
)
_TASK = _Frame(
    InterviewType.TECHNICAL,
    "In this job you would {phrase}: how would you go about it?",
    "Which part of that work have you done before, even on a small scale?",
    "What usually goes wrong when people {phrase}?",
    "What would you do on the first day of that work, and in which order?",
    ("what you would find out first", "the steps in order", "how you check the result",
     "similar work of your own"),
)  # fmt: skip
_TOOL = _Frame(
    InterviewType.TECHNICAL,
    "The job asks for {topic}: what have you done with it yourself?",
    "What do you know about {topic}, even if you have not used it yet?",
    "What do people who are new to {topic} most often get wrong?",
    "Which task did you solve with it, and how did you know that it worked?",
    _OWN_WORK,
)

_NOUN = (
    r"(?P<head>experience|background|training|expertise|practice|track record"
    r"|knowledge|understanding|command|grasp|familiarity|proficiency)"
)
_REQUIREMENT = re.compile(
    r"(?:you (?:have|bring) )?(?P<phrase>(?:(?:an?|at least|minimum|proven|demonstrable|previous"
    r"|prior|practical|hands-on|working|professional|relevant|solid|strong|good|very good|excellent"
    r"|sound|deep|basic|advanced|expert|extensive|first|some|several|\d+\+?|\d+ ?[-–] ?\d+"
    r"|two|three|four|five|six|(?:years?|months?)['’]?(?: of)?|full) ){0,6}"
    rf"{_NOUN}(?: (?:with|in|of|using|from))(?: the)? (?P<object>\S.*))$",
    re.IGNORECASE,
)
_CAN = re.compile(
    r"(?:(?:an |the |strong |proven )?ability to|(?:you (?:can|are able to))|able to)"
    r" (?P<phrase>[a-z].*)$",
    re.IGNORECASE,
)
_WILL = re.compile(
    r"you(?: will|['’]ll) (?!(?:be|have|need|also|work|collaborate|report|liaise|partner|get"
    r"|receive|find) )(?P<phrase>[a-z]+ .*)$",
    re.I,
)
_VERBS = frozenset(
    """
    achieve administer advise analyse analyze answer arrange assemble assess assist audit automate
    book build calculate calibrate care carry check clean coach collect communicate compile conduct
    configure coordinate create cut debug define deliver deploy design detect develop diagnose
    document draft draw drive edit educate ensure establish evaluate examine execute explain find
    forecast guide handle help identify implement improve inspect install integrate introduce
    investigate keep lead load maintain make manage measure mentor migrate model monitor move
    negotiate observe open operate optimise optimize order organise organize own pack perform plan
    prepare present prioritise process produce program propose protect provide publish purchase
    read reconcile recruit reduce release repair replace research resolve review run schedule sell
    serve set ship solve sort supervise support teach test train translate transport treat
    troubleshoot update upgrade use verify weld write
    """.split()
)
_KNOWING = frozenset(
    {"knowledge", "understanding", "command", "grasp", "familiarity", "proficiency"}
)
_TRAILER = re.compile(
    r"(?:,? (?:is|are|would be|will be) (?:an? )?(?:\w+ )?(?:required|plus|bonus|advantage|must"
    r"|essential|desirable|desired|preferred|asset|necessary|welcome)"
    r"|,? (?:ideally|preferably|desirable|preferred|required|including|such as|for example)\b.*"
    r"|\s+[–—-] .*|\s+so that .*)$",
    re.IGNORECASE,
)
_PARENTHESIS = re.compile(r"\s*\([^()]*\)")
_UNFIT = re.compile(
    r"[?!:;{}<>\"“”|@*_#]|https?|\b(?:is|are|was|were|will|would|we|us|i|degree|diploma|salary"
    r"|similar|related|relevant|equivalent|same|following|above|below|etc|other|report(?:ing)?"
    r"|environment|industry|role|position|apply|work(?:ing)? (?:closely )?with)\b",
    re.IGNORECASE,
)
_CERTIFICATE = re.compile(r"\b(?:certifi\w+|qualified|registration|licen[cs]e)\b", re.IGNORECASE)
"""Line about a certificate, which a person holds rather than works with."""

_SUBJECT_END = re.compile(r",| (?:and|or|for|in|on|to|with|at|as|from|that|which|who|by|across) ")


def make_job_questions(job: str) -> list[JobQuestion]:
    """Return the questions that the lines of a clean job description give, in its order, those from
    requirements first. No two questions have the same text."""
    statements = split_statements(job, job=True)
    ordered = sorted(statements, key=lambda one: one.section is not Section.REQUIRED)
    made: dict[str, JobQuestion] = {}
    for statement in ordered:
        for question in _make_questions(statement):
            made.setdefault(question.id, JobQuestion(question, " ".join(statement.text.split())))
    return list(made.values())


def _make_questions(statement: Statement) -> Iterator[Question]:
    line = _clean_line(statement.text)
    listed = statement.section in (Section.REQUIRED, Section.PREFERRED, Section.SKILLS)
    if match := _REQUIREMENT.match(line):
        frame = _KNOWLEDGE if match["head"].lower() in _KNOWING else _EXPERIENCE
        yield from _fill(frame, _lower_first(match["phrase"]), _subject(match["object"]))
    elif match := _CAN.match(line):
        yield from _fill(_ABILITY, match["phrase"], "what the job asks for")
    elif (match := _WILL.match(line)) or _starts_with_verb(line, statement.section):
        phrase = match["phrase"] if match else _lower_first(line)
        yield from _fill(_TASK, phrase, "a task of this job")
    elif listed and not _CERTIFICATE.search(line):
        for term in find_terms(statement, job=True):
            if any(character.isupper() for character in term.text):
                yield from _fill(_TOOL, term.text, term.text)


def _clean_line(line: str) -> str:
    line = _PARENTHESIS.sub("", " ".join(line.split())).strip(" .;,-–")
    return _TRAILER.sub("", line)


def _starts_with_verb(line: str, section: Section) -> bool:
    return section is Section.TASKS and line.partition(" ")[0].lower() in _VERBS


def _lower_first(phrase: str) -> str:
    return phrase[:1].lower() + phrase[1:]


def _subject(phrase: str) -> str:
    """Return the first noun phrase of `phrase`, or an empty string if it is too long for a
    topic."""
    subject = _SUBJECT_END.split(phrase, maxsplit=1)[0].strip()
    return subject if len(subject) <= 40 and len(subject.split()) <= 5 else ""


def _fill(frame: _Frame, phrase: str, topic: str) -> Iterator[Question]:
    """Yield the question of the frame, or nothing if the phrase does not fit."""
    if not topic or not 3 <= len(phrase) <= MAX_PHRASE or _UNFIT.search(phrase):
        return
    words = {"phrase": phrase, "topic": topic}
    text = frame.text.format_map(words)
    yield msgspec.convert(
        {
            "id": f"job-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}",
            "type": frame.type,
            "text": text,
            "topic": topic,
            "levels": tuple(Level),
            "skills": (topic,),
            "families": (ANY_FAMILY,),
            "listen_for": frame.listen_for,
            "easier": frame.easier.format_map(words),
            "harder": frame.harder.format_map(words),
            "vague": frame.vague,
        },
        Question,
    )

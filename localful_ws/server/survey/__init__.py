"""What a daemon is asked, be it one process or several: a survey puts a question to all workers.

Each answers for itself (`respondent`), their parent asks them (`surveyor`), and of their answers one is made
(`merge`). Questions and answers are values (`questions`); none of them is text.
"""

"""What recipes share: their texts, what a language model learns of them, and bases that another recipe makes once."""

from ftkit.studies.bases import Base, prepare_base
from ftkit.studies.language import FillingTask, WritingTask, language_task
from ftkit.studies.texts import Text, load_texts

__all__ = ["Base", "FillingTask", "Text", "WritingTask", "language_task", "load_texts", "prepare_base"]

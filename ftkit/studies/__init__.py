"""What recipes share: their texts, and base models that another recipe makes once."""

from ftkit.studies.bases import Base, prepare_base
from ftkit.studies.subjects import Subject, prepare_subject
from ftkit.studies.texts import Text, load_texts

__all__ = ["Base", "Subject", "Text", "load_texts", "prepare_base", "prepare_subject"]

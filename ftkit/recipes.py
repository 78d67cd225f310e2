"""The recipes as modules, in a checkout and in an installed package alike: ``python -m ftkit.recipes.finetune``."""

from ftkit.config.catalogue import recipes_folder

__path__ = [str(recipes_folder())]

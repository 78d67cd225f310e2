"""The laboratory: experiments of the lessons that no main job needs. No other package of ftkit imports this one."""

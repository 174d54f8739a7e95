"""The drawn world: scenes, their captions, and how they are painted."""

"""Users and their text: recipes, readers, words, vocabulary and the memory-mapped store."""

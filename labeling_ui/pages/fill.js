// The words of a part that has no script of its own.
rlWords.ready.then(() => rlWords.fill(element));

-- Replies with the sequence, after the checks of the prelude.
return {num(sequence)}

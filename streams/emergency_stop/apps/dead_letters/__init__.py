"""Dead letters: what they are, why they are dead, and how one lives again. Pure; the command line is the shell."""

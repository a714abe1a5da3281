"""Files of questions, answers and conversations: what comes in (`reading`) and what goes out (`writing`)."""

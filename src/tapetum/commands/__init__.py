"""The commands, by what they serve; each is one small function whose arguments become flags."""

//! What the kernel has to say about a mount that it refused.

use std::os::fd::AsFd;

/// Reads what the kernel has noted about a file-system context (`fsopen(2)`, `fspick(2)`), one line
/// each.
///
/// After a refused `fsconfig` or `fsmount` these are the reasons in words, such as `autofs: Unknown
/// parameter 'x'`; the letter that marks them as error, warning or information is left out. Beside
/// an error nothing else is told: a warning would hide it. Nothing, if it has nothing to say. What was read is gone from the context.
pub fn kernel_text(context: impl AsFd) -> Option<Box<str>> {
    let (mut errors, mut others) = (String::new(), String::new());
    let mut line = [0; 1024];
    // One message a read; ENODATA behind the last one. The kernel keeps eight of them at most.
    while let Ok(length @ 1..) = rustix::io::read(&context, &mut line) {
        let line = String::from_utf8_lossy(&line[..length]);
        let line = line.trim_end();
        let (text, words) = match line.split_once(' ') {
            Some(("e", words)) => (&mut errors, words),
            Some(("w" | "i", words)) => (&mut others, words),
            _ => (&mut others, line),
        };
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(words);
    }
    let text = if errors.is_empty() { others } else { errors };
    (!text.is_empty()).then(|| text.into())
}

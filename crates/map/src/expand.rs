//! Variables and `&`.

use bstr::ByteSlice;

use crate::lookup::Found;

/// Returns true if the entry asks for something that only the user database knows: USER, GROUP
/// or HOME. The caller looks the names up (which may block) before it plans.
pub fn needs_requester(found: &Found) -> bool {
    let value = found.fragment.slice(found.value);
    ["USER", "GROUP", "HOME"]
        .iter()
        .any(|name| value.contains_str(name))
}

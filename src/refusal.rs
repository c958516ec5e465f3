// SPDX-License-Identifier: GPL-2.0

//! Why a request was refused.

use kernel::{alloc::AllocError, prelude::*, str::CStr};

/// An error number for programs and a sentence for people, who see it as the extack message.
pub(crate) struct Refusal {
    /// What the request answers.
    pub(crate) error: Error,
    /// What is wrong, in words.
    pub(crate) message: &'static CStr,
}

/// The result of a request.
pub(crate) type Outcome<T = ()> = core::result::Result<T, Refusal>;

impl Refusal {
    /// A refusal with `error`, explained by `message`.
    pub(crate) const fn new(error: Error, message: &'static CStr) -> Self {
        Self { error, message }
    }

    /// For `map_err`: keeps the error that came and explains it with `message`.
    pub(crate) fn because(message: &'static CStr) -> impl FnOnce(Error) -> Self {
        move |error| Self { error, message }
    }
}

impl From<AllocError> for Refusal {
    fn from(_: AllocError) -> Self {
        Self::new(ENOMEM, c"out of memory")
    }
}
